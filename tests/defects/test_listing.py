"""Every defect of the review has a test or a reason."""

from __future__ import annotations

from defects.listing import ABSENT, DEFECTS, ORIGINS, find_tests, origin_of


def test_the_numbers_are_covered_exactly():
    tests = find_tests()
    assert sorted([*tests, *ABSENT]) == [*range(1, 72)]
    assert [*DEFECTS] == [*range(1, 72)]


def test_each_test_stands_where_its_origin_says():
    for number, tests in find_tests().items():
        assert {module for module, _ in tests} == {ORIGINS[origin_of(number)][0]}, number


def test_each_sentence_is_one():
    for number, defect in DEFECTS.items():
        for sentence in defect:
            assert sentence.endswith("."), number
            assert "|" not in sentence, number
