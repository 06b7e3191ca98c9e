# SPDX-License-Identifier: Apache-2.0
"""Recipes, the rounds, their ledger, selection, packing, report and the command line."""
