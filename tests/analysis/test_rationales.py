import json

from helpers.memory_store import MemoryStore
from helpers.rationale_pages import result_file
from helpers.simulated import record_simulated

from unirex_ray.analysis.compare import compare
from unirex_ray.analysis.rationales import read_rationales
from unirex_ray.tracking.records import TrialRecord


def test_rationales_are_those_of_selected_configurations_and_what_is_missing_is_said() -> None:
    store = MemoryStore()
    record_simulated(store)
    comparison = compare("reviews", store.sweeps("reviews"))
    changed = json.loads(result_file("changed"))
    changed["epoch"] = 7
    earlier = {key: value for key, value in json.loads(result_file("earlier")).items() if key != "highlights"}
    earlier.pop("digest")
    files = {"aa-ig": json.dumps(changed).encode(), "aa-grad": json.dumps(earlier).encode(), "unirex-slm-fp": None}
    seen: list[TrialRecord] = []

    def read(trial: TrialRecord) -> bytes | None:
        seen.append(trial)
        return files.get(trial.spec.method, result_file(trial.spec.trial_id))

    found, missing = read_rationales(comparison, read)
    assert [trial.spec.seed for trial in seen] == [0, 0, 0, 0]
    assert {method: [one.inputs[0].segments for one in shown] for method, shown in found.items()} == {
        "unirex-dlm-fp": [(("s1-unirex-dlm-fp-0000-s0"),)]
    }
    assert missing == {
        "aa-ig": "result.json is damaged: its checksum is another one",
        "aa-grad": "an earlier version kept none",
        "unirex-slm-fp": "result.json is gone, or was left by an earlier version",
    }
