"""Batches from the host are the batches from the device, bit for bit."""

import jax
import numpy as np
import pytest

from iql_jax.training import feed, population
from tests.training.test_population import CONFIG, assert_identical, make

LENGTHS = (7, 7, 6)


def pieces():
    return feed.pieces_of(0, 20, lambda update: min(7, 20 - update))


@pytest.mark.parametrize("num_members", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_host_feeds_what_the_device_holds(num_members, tmp_path):
    agent, config, layout, states, keys, rows, _ = make(range(num_members))
    rows = np.asarray(rows)
    device = feed.DeviceFeed(agent, config, layout, keys, rows)
    mapped = feed.map_rows(rows, tmp_path / "rows.npy")
    assert isinstance(mapped, np.memmap)
    host = feed.HostFeed(agent, config, layout, keys, mapped, CONFIG.batch_size, pieces())
    on_device = on_host = states
    on_host = jax.tree.map(lambda x: x.copy(), states)
    for num_updates in LENGTHS:
        on_device, left, _ = device.train(on_device, num_updates, CONFIG.batch_size, "float32")
        on_host, right, _ = host.train(on_host, num_updates, CONFIG.batch_size, "float32")
        assert_identical(left, right)
    host.close()
    assert_identical(on_device, on_host)


def test_the_drawn_rows_are_those_of_the_training_program():
    *_, keys, _, num_rows = make([0, 1])
    drawn = population.draw_many(keys, 5, num_rows, batch_size=8, num_updates=4)
    alone = population.draw_many(keys[1:], 7, num_rows, batch_size=8, num_updates=1)
    assert drawn.shape == (2, 4, 8)
    np.testing.assert_array_equal(drawn[1, 2], alone[0, 0])


def test_pieces_follow_each_other():
    assert list(pieces()) == [(0, 7), (7, 7), (14, 6)]
    assert list(feed.pieces_of(5, 5, lambda update: 1)) == []


def test_an_error_while_fetching_reaches_training():
    agent, config, layout, states, keys, _, _ = make([0])

    class Broken:
        def __len__(self):
            return 10

        def __getitem__(self, index):
            raise OSError("the disk is gone")

    host = feed.HostFeed(agent, config, layout, keys, Broken(), 8, pieces())
    with pytest.raises(OSError, match="the disk is gone"):
        host.train(states, 7, 8, "float32")
    host.close()


def test_closing_does_not_wait_for_a_reader():
    agent, config, layout, _, keys, rows, _ = make([0])
    host = feed.HostFeed(agent, config, layout, keys, np.asarray(rows), 8, pieces())
    host.close()  # with pieces unread
