"""Comparisons of losses on real data: run them within a time limit, again and again until they are done, and write down the results."""
