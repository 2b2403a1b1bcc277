// Driver for Node's clients: node driver.js CLIENT BOOTSTRAP. ../README.md is the contract.
'use strict'
const readline = require('node:readline')

const [name, bootstrap] = process.argv.slice(2)
const say = line => process.stdout.write(JSON.stringify(line) + '\n')

async function main () {
  const { create, version } = require(name === 'kafkajs' ? './kafkajs.js' : './platformatic.js')
  const ops = create(bootstrap, say)
  say({ event: 'ready', client: name, version })
  readline.createInterface({ input: process.stdin }).on('line', async line => {
    const request = JSON.parse(line)
    try {
      say({ id: request.id, ...(await ops[request.op](request)) })
    } catch (e) {
      const inner = e.errors ? ' [' + e.errors.map(x => x.message).join('; ') + ']' : ''
      say({ id: request.id, error: `${e.name}: ${e.message}${inner} ${e.stack?.split('\n')[1] ?? ''}` })
    }
  }).on('close', () => process.exit(0))
}

main()
