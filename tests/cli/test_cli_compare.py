"""crkd compare: what is asked of the stage, and how differences look."""

import json

import pyarrow as pa
import pytest

from crkd_core.stages import compare as stage
from tests.support.described import CLASSES


def row(kind: str, name: str, label: str, difference: float) -> dict:
    scores = {"first": 0.5, "second": 0.5 + difference, "difference": difference}
    scores |= {"low": difference - 0.1, "high": difference + 0.1, "beyond_noise": abs(difference) > 0.1}
    nothing = dict.fromkeys(scores) if label != "all" else scores
    values = {f"ap_{column}": value for column, value in scores.items()}
    values |= {f"nds_{column}": value for column, value in nothing.items()}
    return {"kind": kind, "slice": name, "class": label, "objects": 1234567, **values}


@pytest.fixture
def asked(make, monkeypatch):
    requests = []
    artifact = make("compare", "teacher-crkd-val")
    labels = ("all", *CLASSES)
    rows = [row("all", "all", label, -0.05 * rank) for rank, label in enumerate(labels)]
    rows += [row("condition", name, label, 0.3) for name in ("day", "night") for label in labels]
    missed = pa.table({"class": ["car", "bus", "car"]})

    def compare(request, workspace, progress):
        requests.append(request)
        table = pa.Table.from_pylist(rows)
        return stage.CompareResult(artifact, ("teacher", "crkd"), table, missed if request.score < 0.5 else missed[:0])

    monkeypatch.setattr(stage, "compare", compare)
    return requests


def test_differences_are_shown_within_80_columns(crkd, asked):
    result = crkd("compare", "teacher", "crkd", "--split", "train", "--breakdown", "condition", "--bootstrap", "50")
    assert result.code == 0
    (request,) = asked
    assert (request.first, request.second, request.split, request.resamples) == ("teacher", "crkd", "train", 50)
    lines = result.out.splitlines()
    assert lines[0] == "A is teacher, B is crkd; differences are B - A."
    judged = {line.split()[0]: line.split()[-1] for line in lines if line.endswith(("yes", "no"))}
    assert (judged["mAP"], judged["car"], judged["bus"]) == ("no", "no", "yes")
    assert sum(line.split()[0] == "night" for line in lines if line.endswith("yes")) == 11
    assert max(len(line) for line in lines if not line.startswith("comparison")) <= 80
    assert "A finds 3 objects that B misses (from score 0.3 on):\ncar 2, bus 1." in result.out
    assert "crkd visualize --missed teacher-crkd-val" in result.out


@pytest.mark.parametrize(
    ("difference", "words", "verdict"),
    [
        (0.2, "crkd is ahead of teacher beyond the noise (+0.100 to +0.300).", "ahead"),
        (-0.2, "crkd is behind teacher beyond the noise (-0.300 to -0.100).", "behind"),
        (-0.05, "crkd and teacher differ by no more than the noise (-0.150 to +0.050).", "level"),
    ],
)
def test_the_end_says_who_is_ahead(crkd, make, monkeypatch, difference, words, verdict):
    table = pa.Table.from_pylist([row("all", "all", label, difference) for label in ("all", "car")])
    result = stage.CompareResult(make("compare", "it"), ("teacher", "crkd"), table, pa.table({"class": ["car"]}))
    monkeypatch.setattr(stage, "compare", lambda *_: result)
    said = crkd("compare", "teacher", "crkd").out.splitlines()
    assert {f"mAP: {words}", f"NDS: {words}"} <= set(said)
    assert json.loads(crkd("compare", "teacher", "crkd", "--json").out)["verdict"] == {"mAP": verdict, "NDS": verdict}


def test_too_few_scenes_are_no_verdict(crkd, make, monkeypatch):
    unjudged = row("all", "all", "all", 0.2)
    unjudged |= {f"{score}_{column}": None for score in ("ap", "nds") for column in ("low", "high", "beyond_noise")}
    table = pa.Table.from_pylist([row("all", "all", "all", 0.2), unjudged])[1:]
    result = stage.CompareResult(make("compare", "it"), ("a", "b"), table, pa.table({"class": ["car"]}))
    monkeypatch.setattr(stage, "compare", lambda *_: result)
    said = crkd("compare", "a", "b").out
    assert "too few scenes" in said
    assert "noise." not in said.replace("beyond\n", "")
    verdict = json.loads(crkd("compare", "a", "b", "--json").out)["verdict"]
    assert verdict == {"mAP": "unknown", "NDS": "unknown"}


def test_nothing_missed_and_json(crkd, asked):
    assert "A finds 0 objects that B misses (from score 0.9 on)." in crkd("compare", "a", "b", "--score", "0.9").out
    values = json.loads(crkd("compare", "a", "b", "--json").out)
    assert (values["first"], values["second"], values["missed"]) == ("teacher", "crkd", {"car": 2, "bus": 1})
    assert len(values["comparison"]) == 33


def test_wrong_words(crkd, asked):
    assert crkd("compare", "a").code == 2
    assert crkd("compare", "a", "b", "--breakdown", "colour").code == 2
    assert asked == []
