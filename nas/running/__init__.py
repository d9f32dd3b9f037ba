"""Running a study: what is proposed, run, judged and stored."""
