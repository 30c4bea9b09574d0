const greeting = 'Hello from a preview';

const escapeHtml = (text) => String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

/** The one page of this app. */
export function page(env, visitors) {
  const facts = {
    commit: env.PREVIEW_SHA ?? 'not a preview',
    'pull request': env.PREVIEW_PR ? `#${env.PREVIEW_PR}` : 'none',
    branch: env.PREVIEW_BRANCH ?? '-',
    address: env.PREVIEW_URL ?? '-',
    visitors,
  };
  const rows = Object.entries(facts).map(
    ([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`,
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(greeting)}</title>
<style>
  :root { color-scheme: light dark; font: 1.1rem/1.6 system-ui, sans-serif; }
  body { display: grid; place-content: center; min-height: 100vh; margin: 0; padding: 1rem; box-sizing: border-box; }
  h1 { margin: 0 0 1.5rem; font-size: clamp(1.8rem, 6vw, 3.2rem); letter-spacing: -0.02em; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.4rem 1.5rem; margin: 0; }
  dt { opacity: 0.6; }
  dd { margin: 0; font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
</style>
<h1>${escapeHtml(greeting)}</h1>
<dl>${rows.join('')}</dl>
</html>
`;
}
