//! The seams alone, before any role: a server that commits what it is told before it answers, and loses its power.

use std::{path::Path, sync::Arc, time::Duration};

use p2p::{
    protocol::device::DeviceSecret,
    roles::environment::Environment,
    store::database::open_database,
    transport::{
        link::{Link, LinkError, accept, dial},
        tls::{Identity, Protocol},
    },
};
use rand_chacha::rand_core::Rng as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::time::{sleep, timeout};

use super::Script;
use crate::{
    cluster::{Cluster, Outcome},
    disk::Crash,
};

const NUMBERS: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");
/// Numbers that the client has committed, one after the other.
const LAST: u64 = 400;
/// Silence after which the client dials again.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn build(cluster: &mut Cluster) -> Script {
    let server = cluster.machine("server", 0);
    cluster.machine("client", 3_600_000);
    let address = format!("{}:7000", server.ip());
    cluster.start("server", serve);
    cluster.start("client", move |env| count(env, address.clone()));
    let (faults, disk, mut rng) = (cluster.faults(), server.disk().clone(), cluster.rng());
    Box::pin(async move {
        for how in [Crash::Power, Crash::Process, Crash::Power] {
            sleep(Duration::from_millis(200 + rng.next_u64() % 1500)).await;
            faults.crash("server", how).await;
            faults.restart("server").await;
        }
        faults.partition("server", "client").await;
        sleep(Duration::from_secs(4)).await;
        faults.heal("server", "client").await;
        sleep(Duration::from_mins(1)).await;
        faults.crash("server", Crash::Power).await;
        let database = open_database(&disk, Path::new("/data/numbers"))?;
        let found = numbers(&database)?;
        if found == (1..=LAST).collect::<Vec<_>>() { Ok(()) } else { Err(format!("committed: {found:?}").into()) }
    })
}

fn identity(n: u8) -> Identity {
    Identity::new(&DeviceSecret::from_seed([n; 32]))
}

async fn serve(env: Environment) -> Outcome {
    env.disk.create_dir_all(Path::new("/data"))?;
    let database = Arc::new(open_database(&*env.disk, Path::new("/data/numbers"))?);
    let listener = env.transport.listen("0.0.0.0:7000").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let database = database.clone();
        env.spawn(async move {
            let end = match accept(stream, &identity(1)).await {
                Ok(link) => answer(link, &database).await.err().map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            tracing::info!(?end, "link ended");
        });
    }
}

async fn answer(link: Link, database: &Database) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (mut reader, mut writer) = link.split();
    while let Some(number) = reader.message::<u64>().await? {
        let write = database.begin_write()?;
        write.open_table(NUMBERS)?.insert(number, number)?;
        write.commit()?;
        writer.send(&number).await?;
    }
    Ok(())
}

/// Sends number after number, each until it was answered.
async fn count(env: Environment, address: String) -> Outcome {
    let mut next = 1;
    while next <= LAST {
        let link = dial(&*env.transport, &identity(2), &address, Protocol::Sync, Some(identity(1).device())).await;
        let end = match link {
            Ok(link) => exchange(link, &mut next).await,
            Err(error) => Err(error),
        };
        tracing::info!(?end, next, "link ended");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn exchange(link: Link, next: &mut u64) -> Result<(), LinkError> {
    let (mut reader, mut writer) = link.split();
    while *next <= LAST {
        writer.send(next).await?;
        let answer =
            timeout(PATIENCE, reader.message::<u64>()).await.map_err(|_| LinkError::Timeout("the answer"))??;
        if answer != Some(*next) {
            return Err(LinkError::Closed);
        }
        *next += 1;
    }
    writer.close().await
}

fn numbers(database: &Database) -> Result<Vec<u64>, Box<dyn std::error::Error>> {
    let table = database.begin_read()?.open_table(NUMBERS)?;
    table.iter()?.map(|entry| Ok(entry?.0.value())).collect()
}
