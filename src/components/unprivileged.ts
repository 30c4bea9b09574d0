import { execa } from 'execa';

/** A user without rights, for what refuses to run as root. */
export interface UnprivilegedUser {
  name: string;
  uid: number;
  gid: number;
}

/** Users that PostgreSQL may run as when we are root, the best first. */
const candidates = ['postgres', 'nobody'];

let found: Promise<UnprivilegedUser | undefined> | undefined;

/** The user that PostgreSQL runs as: undefined when we are not root (it then runs as ourselves). Throws when root has none to offer. */
export function unprivilegedUser(): Promise<UnprivilegedUser | undefined> {
  if (process.getuid?.() !== 0) return Promise.resolve(undefined);
  found ??= findUser();
  return found;
}

async function findUser(): Promise<UnprivilegedUser> {
  for (const name of candidates) {
    const ids = await Promise.all(
      ['-u', '-g'].map((flag) => execa('id', [flag, name], { reject: false, stdin: 'ignore' })),
    );
    const [uid, gid] = ids.map((result) => (result.failed ? Number.NaN : Number(result.stdout)));
    if (uid && gid) return { name, uid, gid };
  }
  throw new Error(
    `PostgreSQL refuses to run as root, and there is no user ${candidates.join(' or ')}: create one (useradd --system postgres), or run as another user`,
  );
}

/** Whether `user` may enter this folder or run this program; the kernel is asked as that user, so every parent counts. */
export async function mayEnter(user: UnprivilegedUser | undefined, path: string): Promise<boolean> {
  const result = await execa('test', ['-x', path], {
    uid: user?.uid,
    gid: user?.gid,
    cwd: '/',
    stdin: 'ignore',
    reject: false,
  });
  return !result.failed;
}
