"""What the config asks of the provider presets: which there are, and what they know."""

from __future__ import annotations

from probes.mailbox.presets import Preset, presets


def provider_names() -> tuple[str, ...]:
    """Names of all presets."""
    return tuple(presets())


def provider_facts(name: str) -> Preset | None:
    """The preset of that name, or None where there is none."""
    return presets().get(name)
