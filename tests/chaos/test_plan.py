"""What is done when is drawn from a seed."""

from collections import Counter

from helpers.chaos import plan
from helpers.chaos_kinds import KINDS


def test_every_kind_comes_equally_often_and_a_seed_tells_when() -> None:
    episodes = plan(3, 2 * len(KINDS), list(KINDS))
    assert episodes == plan(3, 2 * len(KINDS), list(KINDS)) != plan(4, 2 * len(KINDS), list(KINDS))
    assert Counter(i.kind for episode in episodes for i in episode.injections) == dict.fromkeys(KINDS, 2)
    for episode in episodes:
        assert not {"server", "own"} <= {KINDS[i.kind].tracking for i in episode.injections}
        shares = [i.share for i in episode.injections]
        assert shares == sorted(shares)
        assert 0 <= shares[0] <= shares[-1] < 0.9
    assert {episode.searcher for episode in episodes} == {"grid", "random"}


def test_a_campaign_ends_after_as_many_as_were_asked_for() -> None:
    assert [len(episode.injections) for episode in plan(0, 7, ["SIGTERM"], together=3)] == [3, 3, 1]
