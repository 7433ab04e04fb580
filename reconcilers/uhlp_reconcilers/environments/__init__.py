"""Apps' packages: installed once for all that ask for the same, by a process that can do nothing else."""
