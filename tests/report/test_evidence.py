import json
from dataclasses import replace

import pytest
from helpers.rationale_pages import K, instance

from unirex_ray.report.evidence import disagreement, gather
from unirex_ray.report.html import methods_page


def test_probabilities_follow_from_what_was_recorded() -> None:
    measured = {f"comp@{k}": k / 100 for k in K} | {f"suff@{k}": -k / 1000 for k in K}
    measured |= {"comprehensiveness": 0.1434, "sufficiency": -0.0143, "auprc": 61.255, "token_f1": 50.0}
    page = gather({"": [instance("a good film", {"good": 5}, {"good"}, probability=0.8125, measured=measured)]})
    ((view,),) = [card.views for card in page.cards]
    assert (page.percents, page.shown) == (K, 20)
    assert view.p_full == ["0.812"] * 5
    assert view.p_without == ["0.802", "0.762", "0.713", "0.613", "0.312"]
    assert view.p_alone == ["0.814", "0.818", "0.823", "0.833", "0.863"]
    assert view.metrics == {"Comp": "0.143", "Suff": "-0.014", "AUPRC": "61.26", "TF1": "50.00"}
    assert view.right is True


def test_where_each_rationale_predicts_the_probability_is_that_of_its_threshold() -> None:
    measured = {f"probability@{k}": 0.5 + k / 200 for k in K} | {f"comp@{k}": 0.1 for k in K}
    measured |= {f"suff@{k}": 0.0 for k in K}
    ((view,),) = [card.views for card in gather({"": [instance("a b", {"a": 1}, measured=measured)]}).cards]
    assert view.p_full == view.p_alone == ["0.505", "0.525", "0.550", "0.600", "0.750"]
    assert view.p_without == ["0.405", "0.425", "0.450", "0.500", "0.650"]


def test_what_was_not_measured_is_not_made_up() -> None:
    page = gather({"": [instance("a b", {"a": 30}, label=None, shown=30, thresholds=(1, 5, 10, 20, 30, 50))]})
    ((view,),) = [card.views for card in page.cards]
    assert (page.percents, page.shown) == ((1, 5, 10, 20, 30, 50), 30)
    assert {*view.p_without, *view.p_alone, *view.metrics.values(), *view.off_gold} == {"n/a"}
    assert view.right is None
    values = json.loads(json.dumps(page.cards[0].values))
    assert values["views"][0]["auprc"] is None
    assert values["views"][0]["wrong"] is False


def test_distances_to_gold_and_between_methods() -> None:
    one = instance("aa bb cc dd", {"aa": 1, "bb": 20}, {"aa", "dd"})
    other = instance("aa bb cc dd", {"bb": 1, "cc": 50}, {"aa", "dd"}, predicted="neg", label="pos")
    page = gather({"One": [one], "Other": [other]})
    (card,) = page.cards
    assert [view.off_gold for view in card.views] == [
        ["0.50", "0.50", "0.50", "0.67", "0.67"],
        ["1.00"] * 5,
    ]
    assert card.apart == ["1.00", "1.00", "1.00", "0.50", "0.67"]
    assert card.values["differ"]
    assert [view["wrong"] for view in card.values["views"]] == [False, True]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("ab", "ab", 0.0), ("ab", "bc", 2 / 3), ("a", "b", 1.0), ("", "", 0.0), ("", "a", 1.0)],
)
def test_disagreement(one: str, other: str, expected: float) -> None:
    assert disagreement(one, other) == pytest.approx(expected)
    assert disagreement(other, one) == pytest.approx(expected)


def test_a_rationale_of_its_own_size_stands_beside_others_at_every_percent() -> None:
    fresh = instance("aa bb", {"aa": 10}, {"aa"}, shown=10, thresholds=(10,))
    page = gather({"FRESH": [fresh], "Other": [instance("aa bb", {"bb": 50}, {"aa"})]})
    first, second = page.cards[0].views
    assert (page.percents, page.shown) == (K, 20)
    assert (first.own, second.own) == (10, None)
    assert first.off_gold == ["0.00"] * 5
    alone = gather({"": [fresh]})
    assert (alone.percents, alone.shown) == ((10,), 10)


def test_results_of_earlier_versions_show_their_one_rationale() -> None:
    page = gather({"": [instance("aa bb", {"aa": 20}, {"aa"}, thresholds=())]})
    assert (page.percents, page.shown, page.cards[0].views[0].off_gold) == ((20,), 20, ["0.00"])


def test_only_instances_that_all_methods_show_are_compared() -> None:
    columns = [[instance("a b", {"a": 1}, name=name) for name in names] for names in ("xyz", "zyw")]
    page = gather(dict(zip(("One", "Other"), columns, strict=True)))
    assert [card.id for card in page.cards] == ["y", "z"]


def test_a_page_has_room_for_so_much_and_says_what_it_leaves_out() -> None:
    long = [instance("x" * 100_000, {}, name=str(number)) for number in range(30)]
    page = gather({"": long})
    assert [card.id for card in page.cards] == [str(number) for number in range(8)]
    assert page.left_out == 22
    assert len(gather({"": long[:3]}).cards) == 3


def test_instances_that_not_all_methods_show_are_counted() -> None:
    first, second, third = (replace(instance("a b", {"a": 1}), id=name) for name in ("1", "2", "3"))
    page = gather({"One": [first, second], "Other": [second, third]})
    assert (len(page.cards), page.not_common) == (1, 2)
    assert "2 instances that not all methods show are left out." in methods_page(
        {"One": [first, second], "Other": [second, third]}, title=""
    )
    apart = methods_page({"One": [first], "Other": [third]}, title="")
    assert "which are all there are: trials of this version and of earlier ones show unlike samples." in apart
