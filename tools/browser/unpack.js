// Writes the browser of @sparticuz/chromium, and the libraries it comes with, into the directory given.
const { brotliDecompressSync } = require('node:zlib');
const { readFileSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');

const [modules, target] = process.argv.slice(2);
const packed = join(modules, '@sparticuz', 'chromium', 'bin');
const write = (name, to, mode) =>
  writeFileSync(join(target, to), brotliDecompressSync(readFileSync(join(packed, name))), { mode });
write('chromium.br', 'chromium', 0o755);
write('al2023.tar.br', 'libraries.tar', 0o644);
