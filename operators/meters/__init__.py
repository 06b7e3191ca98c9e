# SPDX-License-Identifier: Apache-2.0
"""Meters: one file each. They look at the frames of the one decode and say numbers; `operators.catalog` names them."""
