"""Fetch and decode images, read EXIF, make thumbnails."""
