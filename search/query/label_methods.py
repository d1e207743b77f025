"""``LabelMethods``: what ``Index`` and ``RemoteIndex`` do with albums and tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twinlens.search.query.arguments import check_arguments
from twinlens.search.query.labels import checked_label

if TYPE_CHECKING:
    from twinlens.search.query.facets import LabelField
    from twinlens.search.query.labels import PictureLabel


class LabelMethods:
    """Lists and changes albums and tags, which a subclass reads and writes."""

    def albums(self) -> list[PictureLabel]:
        """The albums of the collection, sorted by name, each with the filter of its pictures."""
        return self._labels("albums")

    def add_to_album(self, name: str, *pictures: str) -> int:
        """Put pictures into an album; return how many were not in it.

        Args:
            name: of the album, which exists as long as it has pictures.
            pictures: ids or stored paths.

        Raises:
            UsageError: the name is not valid, or a picture is not stored.
        """
        return self._checked_change("albums", name, pictures, add=True)

    def remove_from_album(self, name: str, *pictures: str) -> int:
        """Take pictures out of an album; return how many were in it. See ``add_to_album``."""
        return self._checked_change("albums", name, pictures, add=False)

    def tags(self) -> list[PictureLabel]:
        """The tags of the collection's pictures, sorted by name, each with its filter."""
        return self._labels("tags")

    def add_tag(self, name: str, *pictures: str) -> int:
        """Tag pictures; return how many did not have the tag.

        Args:
            name: of the tag, which exists as long as a picture has it.
            pictures: ids or stored paths.

        Raises:
            UsageError: the name is not valid, or a picture is not stored.
        """
        return self._checked_change("tags", name, pictures, add=True)

    def remove_tag(self, name: str, *pictures: str) -> int:
        """Remove a tag from pictures; return how many had it. See ``add_tag``."""
        return self._checked_change("tags", name, pictures, add=False)

    def _checked_change(
        self, field: LabelField, name: str, pictures: Sequence[str], *, add: bool
    ) -> int:
        check_arguments(str, name=name)
        check_arguments(list, pictures=pictures)
        name = checked_label(field, name)
        return self._change_label(field, name, pictures, add=add) if pictures else 0

    def _labels(self, field: LabelField) -> list[PictureLabel]:
        raise NotImplementedError

    def _change_label(
        self, field: LabelField, name: str, pictures: Sequence[str], *, add: bool
    ) -> int:
        raise NotImplementedError
