"""This package tells how sure a front is: which members to train with more seeds, and what their results prove."""
