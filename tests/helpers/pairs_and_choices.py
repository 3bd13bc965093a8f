"""Studies of texts in pairs, and of texts that stand for choices, made of studies of single texts."""

from __future__ import annotations

from dataclasses import replace

from unirex_ray.study.manifest import Study, Text


def in_pairs(study: Study, second: str = "and what follows it") -> Study:
    """Each text with a second segment."""
    shown = [replace(one, texts=(Text(segments=(*one.texts[0].segments, second)),)) for one in study.instances]
    return replace(study, instances=tuple(shown))


def of_choices(study: Study) -> Study:
    """Instance n offers n + 2 choices of its own, each with a text."""
    shown = []
    for number, one in enumerate(study.instances):
        choices = tuple(f"choice {number}.{other}" for other in range(number + 2))
        texts = (Text(segments=one.texts[0].segments, choice=choices[0]), *(
            Text(segments=(f"of {choice}",), choice=choice) for choice in choices[1:]
        ))  # fmt: skip
        shown.append(replace(one, texts=texts, options=choices))
    return replace(study, instances=tuple(shown))
