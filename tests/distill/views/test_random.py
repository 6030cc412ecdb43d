"""The random stream against an independent Philox and against Python's statistics."""

import math
import statistics

import pytest

from distill.views.random import (
    NORMAL_GRID,
    bernoulli,
    exp,
    integer,
    log,
    log_uniform,
    normal,
    normal_quantile,
    to_grid,
    uniform,
    words,
)

MASK = 2**64 - 1


def philox4x64(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds of Philox4x64, straight from Salmon et al. (SC 2011), figure 2 and table 2."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * x0, 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * x2, 2**64)
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return [x0, x1, x2, x3]


def test_reference_gives_the_published_vector():
    expected = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert philox4x64([0, 0, 0, 0], [0, 0]) == expected


@pytest.mark.parametrize(("seed", "domain"), [(0, 0), (1, 0), (0, 1), (2**64 - 1, 7), (2**53 + 1, 2**63)])
def test_words_are_philox_blocks_counted_from_one(seed, domain):
    blocks = [philox4x64([block, 0, 0, 0], [seed, domain]) for block in (1, 2, 3)]
    assert words(seed, domain=domain, count=12) == [word for block in blocks for word in block]


def test_more_words_do_not_change_the_first():
    assert words(9, count=300)[:7] == words(9, count=7)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_outside_64_bits_are_refused(seed):
    with pytest.raises(ValueError, match="unsigned 64-bit"):
        words(seed, count=1)


def test_uniform_known_answers():
    assert uniform(0) == 0.0
    assert uniform(MASK) == 1 - 2**-53
    assert uniform(2**63) == 0.5
    assert uniform(2**63, -1.0, 3.0) == 1.0
    assert uniform(2**11 - 1) == 0.0  # the lowest eleven bits are not looked at


def test_integer_known_answers():
    assert [integer(word, 15) for word in (0, 2**60 - 1, 2**63, MASK)] == [0, 0, 7, 14]
    assert integer(MASK, 1) == 0


def test_chance_at_its_ends():
    assert not bernoulli(0, 0.0)
    assert bernoulli(MASK, 1.0)


def test_normal_known_answers():
    assert normal(2**63) == 0.0
    assert normal(0) == -normal(MASK)
    assert 8.1 < normal(MASK) < 8.3
    assert normal(int(0.975 * 2**64)) == round(1.959963985 * NORMAL_GRID) / NORMAL_GRID


def test_normal_quantile_against_statistics():
    exact = statistics.NormalDist()
    for probability in [2.0**-53, 1e-12, 1e-9, 1e-4, *(step / 997 for step in range(1, 997)), 1 - 1e-9]:
        assert normal_quantile(probability) == pytest.approx(exact.inv_cdf(probability), rel=2e-7, abs=1e-8)


def test_normals_have_the_right_moments():
    drawn = [normal(word) for word in words(3, count=20_000)]
    assert statistics.fmean(drawn) == pytest.approx(0, abs=0.02)
    assert statistics.pstdev(drawn) == pytest.approx(1, abs=0.02)
    assert all(number * NORMAL_GRID == int(number * NORMAL_GRID) for number in drawn)


def test_exp_and_log_are_the_real_ones():
    for number in (0.01, 0.3, 0.75, 1.0, 4 / 3, 10.0):
        assert log(number) == pytest.approx(math.log(number), rel=1e-15, abs=1e-16)
        assert exp(log(number)) == pytest.approx(number, rel=1e-15)


def test_log_uniform_stays_between_its_ends():
    drawn = [log_uniform(word, 0.75, 4 / 3) for word in words(5, count=2000)]
    assert min(drawn) >= 0.75 * (1 - 1e-15)
    assert max(drawn) <= 4 / 3 * (1 + 1e-15)
    assert statistics.fmean(math.log(number) for number in drawn) == pytest.approx(0, abs=0.02)


def test_to_grid():
    assert to_grid(0.3, 1024) == 307 / 1024
