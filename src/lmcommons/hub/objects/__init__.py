"""Large files, named by the sha256 of their content. One store, and no idea of repositories or permissions."""
