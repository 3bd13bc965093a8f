"""What an explanation holds, and how it is shown."""

from dataclasses import replace

import numpy as np
import pytest

from unirex_ray.errors import UserError
from unirex_ray.inference.explanation import ExplainedInput, Explanation, Explanations


def explained(text: str, spans: list[tuple[int, int]], scores: list[float], label: str = "no") -> Explanation:
    """Between CLS and SEP."""
    rows = [(-1, 0, 0), *((0, *span) for span in spans), (-1, 0, 0)]
    read = ExplainedInput(
        segments=(text,),
        tokens=("[CLS]", *(text[start:end] for start, end in spans), "[SEP]"),
        spans=np.array(rows, dtype=np.int32),
        scores=np.array(scores, dtype=np.float32),
        note="3 tokens are cut",
    )
    return Explanation(
        inputs=(read,),
        probabilities={label: 0.75, "yes": 0.25},
        predicted=label,
        top_k_percent=33,
        complement_probability=0.5,
        rationale_probability=0.875,
    )


def test_a_rationale_is_read_off_at_any_k() -> None:
    scores = [9.0, 0.1, 5.0, 4.0, -1.0, 2.0, 7.0]
    explanation = explained("ab cd, e fg", [(0, 2), (3, 5), (5, 6), (7, 8), (9, 11)], scores)
    assert explanation.tokens == ("[CLS]", "ab", "cd", ",", "e", "fg", "[SEP]")
    assert explanation.rationale(17) == []  # the one best token is SEP, as in training
    assert explanation.rationale(33) == ["cd"]
    assert explanation.rationale(50) == ["cd,"]
    assert explanation.rationale(67) == ["cd,", "fg"]
    assert explanation.rationale(100) == ["ab cd, e fg"]
    assert explanation.rationale() == explanation.rationale(33)
    assert explanation.rationale(np.int64(33)) == ["cd"]
    for wrong in (0, 101, 2.5, "20", True, np.bool_(True), np.float64(20)):
        with pytest.raises(UserError, match=r"must be a whole number from 1 to 100, but got"):
            explanation.rationale(wrong)


@pytest.mark.parametrize(
    ("percent", "phrases"),
    [(25, []), (50, ["cd"]), (75, ["ab", "cd"])],  # SEP is the most important one
)
def test_stretches_do_not_reach_over_segments(percent: int, phrases: list[str]) -> None:
    read = ExplainedInput(
        segments=("ab", "cd"),
        tokens=("[CLS]", "ab", "[SEP]", "cd", "[SEP]"),
        spans=np.array([(-1, 0, 0), (0, 0, 2), (-1, 0, 0), (1, 0, 2), (-1, 0, 0)], dtype=np.int32),
        scores=np.array([0, 1, 3, 2, 0], dtype=np.float32),
    )
    assert read.phrases(percent) == phrases
    assert replace(read, segments=("ab cd",), spans=np.array(ONE_SEGMENT, dtype=np.int32)).phrases(75) == ["ab", "cd"]


ONE_SEGMENT = [(-1, 0, 0), (0, 0, 2), (-1, 0, 0), (0, 3, 5), (-1, 0, 0)]


BAD = explained("a <script>x</script>", [(0, 1), (2, 20)], [0.0, 1.0, 2.0, 0.5], label="<i>&no")


def test_it_reads_well_in_a_terminal() -> None:
    assert repr(explained("so bad", [(0, 2), (3, 6)], [0.0, 1.0, 2.0, 0.5])) == (
        "prediction: no (75.0%)\nrationale (top 33%): [in brackets]\n(3 tokens are cut)\nso [bad]\n"
        "no: 75.0%; without the rationale 50.0%, with it alone 87.5%"
    )
    many = Explanations([BAD] * 25)
    assert repr(many).endswith("\n\n... and 5 more")
    assert repr(many).count("prediction: ") == 20
    assert "75.0%" in str(BAD)


def test_a_notebook_escapes_every_text() -> None:
    cell = Explanations([BAD] * 25)._repr_html_()
    assert BAD._repr_html_().count("<mark") == 1
    assert cell.count("<mark") == 20
    assert "and 5 more" in cell
    assert "&lt;script&gt;x&lt;/script&gt;</mark>" in cell
    assert "<b>&lt;i&gt;&amp;no</b> 75.0%" in cell
    assert "without the rationale 50.0%" in cell
    assert "<script" not in cell
    assert "<i>" not in cell
    assert "<style" not in cell  # nothing around it changes
