"""Forecasts: the memory, time and data that a training will take, before it is begun."""
