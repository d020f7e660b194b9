"""What a network is: block strings, the table of variants, the Keras layers. Imports only keras and NumPy."""
