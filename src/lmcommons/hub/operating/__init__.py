"""Care for a hub's data: backups, bundles, mirrors, measurements, users who leave. Works on the rooms, without HTTP."""
