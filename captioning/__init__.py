# SPDX-License-Identifier: Apache-2.0
"""The ten structured texts of a clip and the engines that write them."""
