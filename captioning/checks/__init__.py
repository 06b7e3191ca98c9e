# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a caption, seen without a model: each check is a pure function of texts and measurements."""
