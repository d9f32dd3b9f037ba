"""Running a study: this package proposes, runs, judges and stores trials."""
