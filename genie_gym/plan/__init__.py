"""What training a preset takes, before a GPU is rented: memory of a rank, operations, days."""
