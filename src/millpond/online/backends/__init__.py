"""Online stores of each kind behind one port."""
