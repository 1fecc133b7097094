// The peer of the whole analysis: the npm package mailauth over DNS answers kept in memory.
// usage: node mailauth.cjs INPUT.json ROUNDS, with mailauth where NODE_PATH says
const fs = require('fs');
const { authenticate } = require('mailauth');

const input = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const rounds = Number(process.argv[3]);
const message = Buffer.from(input.message, 'base64');

async function resolver(name, type) {
    const records = input.zone[`${name.toLowerCase().replace(/\.$/, '')} ${type}`];
    if (!records) {
        const error = new Error('not found');
        error.code = 'ENOTFOUND';
        throw error;
    }
    return type === 'TXT' ? records.map(record => [record]) : records;
}

const options = { ip: input.ip, helo: input.helo, sender: input.sender, mta: 'mx.example.net', resolver, disableBimi: true };

async function main() {
    let result;
    for (let i = 0; i < Math.min(100, rounds); i++) result = await authenticate(message, options);
    const start = process.hrtime.bigint();
    for (let i = 0; i < rounds; i++) result = await authenticate(message, options);
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    console.log(JSON.stringify({
        per_second: rounds / seconds,
        spf: result.spf.status.result,
        dkim: result.dkim.results.map(one => one.status.result),
        arc: result.arc.status.result,
        dmarc: result.dmarc.status.result
    }));
}
main();
