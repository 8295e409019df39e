"""Who may do what by every route: the matrix, and the world in which it is tried."""
