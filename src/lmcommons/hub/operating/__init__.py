"""Care for a hub's data: backups, bundles, mirrors, measurements. Works on the rooms, without HTTP."""
