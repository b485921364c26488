"""moa.toml, its tables, and the presets."""
