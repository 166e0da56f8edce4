"""What the ordeal says of a run's end: it has to see each way in which one goes wrong."""

import pytest

from benchmarks.ordeal import Answer, Ordeal

NAMES = ["0.jpg", "1.jpg", "2.jpg"]
GOOD = [Answer("0.jpg", "w", None), Answer("1.jpg", "w", None), Answer("2.jpg", None, "IMAGE is not an image")]


class Judged(Ordeal):
    """Of three images, of which the last is none."""

    def __init__(self, folder, answers):
        self.folder, self.given = folder, answers
        self.broken, self.problems = {str(folder / "2.jpg")}, []

    def answers(self):
        return [Answer(str(self.folder / one.file), one.weights, one.reason) for one in self.given]


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (GOOD, None),
        ([*GOOD, GOOD[0]], "1 images are there more than once"),
        (GOOD[1:], "1 images have neither an answer nor a reason"),
        ([Answer("0.jpg", "other", None), *GOOD[1:]], "1 images have answers of other models than w"),
        ([Answer("0.jpg", None, ""), *GOOD[1:]], "1 images have no reason"),
        ([*GOOD[:2], Answer("2.jpg", "w", None)], "1 images are no images and have answers"),
        ([Answer("0.jpg", None, "no answer"), *GOOD[1:]], None),
    ],
)
def test_judgement(answers, problem, tmp_path):
    for name in NAMES:
        (tmp_path / name).touch()
    ordeal = Judged(tmp_path, answers)
    ordeal.judge("w")
    assert [told.startswith(str(problem)) for told in ordeal.problems] == [True] * (problem is not None)
