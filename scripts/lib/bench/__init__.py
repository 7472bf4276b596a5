"""The benchmark behind scripts/bench: cli reads the options, compare and memory are its commands, rows says what is run,
measure how it is measured, data and servers make what it runs on, load writes meanwhile, report prints."""
# SPDX-License-Identifier: GPL-2.0-or-later
