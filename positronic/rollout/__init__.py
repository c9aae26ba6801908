"""Runs episodes: clock, chunk playback, recording, scoring, report."""
