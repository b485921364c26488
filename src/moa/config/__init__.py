"""moa.toml, its tables, and the mixtures that ship."""
