// The peer of the whole analysis: the npm package mailauth over DNS answers kept in memory.
// usage: node mailauth.cjs INPUT.json ROUNDS, with mailauth where NODE_PATH says. INPUT is a list of messages.
const fs = require('fs');
const { authenticate } = require('mailauth');

const inputs = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const rounds = Number(process.argv[3]);

function resolverOf(zone) {
    return async (name, type) => {
        const records = zone[`${name.toLowerCase().replace(/\.$/, '')} ${type}`] || 'ENOTFOUND';
        if (typeof records === 'string') {
            const error = new Error(records);
            error.code = records;
            throw error;
        }
        return type === 'TXT' ? records.map(record => [record]) : records;
    };
}

async function evaluate(input) {
    const message = Buffer.from(input.message, 'base64');
    const resolver = resolverOf(input.zone);
    const options = { ip: input.ip, helo: input.helo, sender: input.sender, mta: 'mx.example.net', resolver, disableBimi: true };
    let result;
    for (let i = 0; i < Math.min(100, rounds - 1); i++) result = await authenticate(message, options);
    const start = process.hrtime.bigint();
    for (let i = 0; i < rounds; i++) result = await authenticate(message, options);
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    const word = one => (one && one.status && one.status.result) || 'none';
    return {
        per_second: rounds / seconds,
        spf: word(result.spf),
        dkim: result.dkim.results.map(word),
        arc: word(result.arc),
        dmarc: word(result.dmarc)
    };
}

async function main() {
    const found = [];
    for (const input of inputs) found.push(await evaluate(input));
    console.log(JSON.stringify(found));
}
main();
