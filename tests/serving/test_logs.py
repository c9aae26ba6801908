"""What strangers can make the server say."""

import logging

import pytest

from positronic.serving.logs import MOST, SPEAKERS, WINDOW_SEC, Sparing, spare_libraries


class Clock:
    now_sec = 0.0

    def __call__(self):
        return self.now_sec


@pytest.fixture
def speak():
    """Says something; what was let through is in the list."""
    logger, clock, heard = logging.Logger("stranger"), Clock(), []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    handler.addFilter(Sparing(most=3, clock=clock))
    logger.addHandler(handler)
    return logger, clock, heard


def test_the_same_line_is_said_a_few_times_only(speak):
    """Whatever is different in its words; another line is not concerned."""
    logger, _, heard = speak
    for number in range(100):
        logger.warning("junk from %s", number)
    logger.error("something else")
    assert heard == ["junk from 0", "junk from 1", "junk from 2", "something else"]


def test_after_a_while_it_is_said_again_with_how_many_were_left_out(speak):
    """So that nobody takes silence for peace."""
    logger, clock, heard = speak
    for now_sec in [0.0] * 5 + [WINDOW_SEC] * 2:
        clock.now_sec = now_sec
        logger.warning("junk")
    assert heard == ["junk"] * 3 + ["junk (2 more like this were left out)", "junk"]


def test_the_libraries_that_hear_strangers_are_bounded(caplog):
    """Uvicorn's line for every request that is none, for one."""
    loggers = [logging.getLogger(name) for name in SPEAKERS]
    before = [list(logger.filters) for logger in loggers]
    try:
        spare_libraries()
        for _ in range(MOST * 5):
            loggers[0].error("Invalid HTTP request received.")
        assert len(caplog.records) <= MOST
    finally:
        for logger, filters in zip(loggers, before, strict=True):
            logger.filters = filters
