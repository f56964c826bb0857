"""Predicting videos: whole ones, over time, and as pictures of both."""
