"""Pictures: fetch, decode, read EXIF, make thumbnails."""
