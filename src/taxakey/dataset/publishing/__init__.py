"""What a published dataset needs beside its pictures."""
