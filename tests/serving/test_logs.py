"""What strangers can make the server say."""

import json
import logging
import logging.config

import pytest

from positronic.serving.logs import (
    JSON,
    MOST,
    SPEAKERS,
    TEXT,
    WINDOW_SEC,
    JsonFormatter,
    Sparing,
    fields,
    library_logging,
    spare_libraries,
)


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


def test_a_json_line_has_what_it_is_about_as_fields():
    """And a traceback inside its message, so that it stays one line."""
    record = logging.makeLogRecord({"msg": "Session %d is ready", "args": (7,), "levelname": "INFO", "created": 0.0})
    vars(record).update(fields({"session": 7}))
    assert json.loads(JsonFormatter().format(record)) == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "info",
        "message": "Session 7 is ready",
        "session": 7,
    }
    try:
        raise ValueError("no")
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "Traceback" in json.loads(line)["message"]


def test_the_libraries_lines_are_json_too_if_ours_are(capfd):
    """Uvicorn and LitServe; as text they stay as the libraries write them."""
    assert library_logging(TEXT, "warning") == {}
    loggers = [logging.getLogger(name) for name in ("uvicorn", "litserve")]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    try:
        logging.config.dictConfig(library_logging(JSON, "warning")["log_config"])
        loggers[1].warning("hello")
        assert json.loads(capfd.readouterr().err)["message"] == "hello"
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
