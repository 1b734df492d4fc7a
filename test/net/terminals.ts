/** Makes terminals of one's own in a mount namespace, as a machine on which nobody else types has them, and runs `$1` there. As root. */
export const OWN_TERMINALS =
  'mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts /dev/pts && mount --bind /dev/pts/ptmx /dev/ptmx && exec python3 -c "$1"';

/** A person at one of them, who types when told to by a line. */
export const TYPIST = `
import os, sys
master, slave = os.openpty()
os.utime(os.ttyname(slave), (1, 1))
print('sits', flush=True)
for line in sys.stdin:
    os.write(master, b'x\\n')
    os.read(slave, 10)
    print('typed', flush=True)
`;
