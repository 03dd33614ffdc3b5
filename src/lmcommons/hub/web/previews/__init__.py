"""What pages show of the content of files: `files.preview` decides; a module for each kind that is more than text."""
