"""What reports are drawn with: an HTML page, and plots as SVG."""
