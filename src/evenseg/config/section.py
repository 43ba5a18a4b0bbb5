"""A part of a configuration whose keywords depend on its type."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of open type, `{type: Name, **keywords}`; the keywords are checked against the type's signature."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str

    @property
    def keywords(self) -> dict[str, Any]:
        """Everything beside the named fields, as written."""
        return dict(self.model_extra or {})
