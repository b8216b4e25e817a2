"""Sites: where units are shortlisted, each with its units, its exact product and what a unit costs."""
