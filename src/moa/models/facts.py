"""One row of what is known of servers and models: a profile, the place and the models it holds for, and its source."""

from __future__ import annotations

from dataclasses import dataclass, field

from moa.models.places import matches
from moa.models.profile import Profile


@dataclass(frozen=True, slots=True)
class Facts:
    """A row of the table.

    Attributes:
        place: the provider's name in :data:`~moa.models.providers.PROVIDERS`, or a key of :data:`~moa.models.places.HOSTS`.
        profile: what holds there.
        source: the page that says so, and the month in which it was read; or what about the row is not confirmed. Such a
            row does no harm where it is wrong: it leaves no field out, and lowers no limit.
        models: patterns of model IDs, in lower case, that it holds for; ``!`` before one that it does not hold for.
    """

    place: str
    profile: Profile
    source: str
    models: tuple[str, ...] = field(default=("*",))

    def hold_for(self, model_id: str) -> bool:
        """Whether the row says something about a model. An ID may have its maker before a slash."""
        name = model_id.lower()
        names = (name, name.rpartition("/")[2])
        excluded = [pattern[1:] for pattern in self.models if pattern.startswith("!")]
        return matches(names, self.models) and not matches(names, excluded)


# OpenAI deprecates max_tokens, and its newer models refuse it. Other servers know the old name only.
NEW_LIMIT = {"max_tokens": "max_completion_tokens"}
OLD_LIMIT = {"max_completion_tokens": "max_tokens"}
NO_DEVELOPER = {"developer": "system"}
