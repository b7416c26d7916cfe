use super::environment::Environment;
use super::management::Management;
use super::redis::Redis;
use super::role::{Expected, Role};
use std::collections::BTreeSet;
use taskyard_common::amqp::{Comparison, Counts, Server};
use taskyard_common::names::Names;
use taskyard_model::PoolName;

/// Something that was asked for: the answer, or why there is none.
pub(crate) type Asked<T> = Result<T, String>;

/// Everything that the checks judge.
pub(crate) struct Facts {
    pub(crate) role: Role,
    pub(crate) names: Names,
    /// The version of this program.
    pub(crate) version: &'static str,
    /// Pools that are known of, `default` among them.
    pub(crate) pools: BTreeSet<PoolName>,
    pub(crate) broker: Asked<Broker>,
    pub(crate) management: Asked<Management>,
    /// What `rabbitmqctl environment` printed, if somebody gave that.
    pub(crate) environment: Option<Environment>,
    /// Nothing where the role has no Redis.
    pub(crate) redis: Option<Asked<Redis>>,
    /// Whether leaders answer commands, where they were asked.
    pub(crate) answer: Option<Asked<()>>,
}

/// What a connection to RabbitMQ shows.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    pub(crate) server: Asked<Server>,
    pub(crate) user: String,
    pub(crate) vhost: String,
    pub(crate) exchanges: Vec<Thing>,
    pub(crate) queues: Vec<Thing>,
    pub(crate) publishing: Asked<Publishing>,
    pub(crate) rights: Asked<Vec<Right>>,
}

/// A queue or an exchange that should be there.
#[derive(Clone, Debug)]
pub(crate) struct Thing {
    pub(crate) name: String,
    /// What it holds, if it exists (an exchange holds nothing).
    pub(crate) counts: Option<Counts>,
    /// Nothing where nobody compared.
    pub(crate) comparison: Option<Comparison>,
}

/// What becomes of a message of the largest size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Publishing {
    /// RabbitMQ takes it.
    Fine,
    /// It is too large, in RabbitMQ's words.
    TooLarge(String),
    /// RabbitMQ takes nothing at present.
    Blocked,
}

/// Whether the user may do something.
#[derive(Clone, Debug)]
pub(crate) struct Right {
    pub(crate) expected: Expected,
    pub(crate) is_granted: bool,
}

impl Facts {
    /// Nothing is known yet.
    pub(crate) fn new(role: Role, names: Names, pools: Vec<PoolName>) -> Self {
        let mut pools = BTreeSet::from_iter(pools);
        pools.insert(PoolName::default_pool());
        Self {
            role,
            names,
            version: env!("CARGO_PKG_VERSION"),
            pools,
            broker: Err("not asked".to_owned()),
            management: Err("not asked".to_owned()),
            environment: None,
            redis: None,
            answer: None,
        }
    }

    /// Whether RabbitMQ or Redis does not answer.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        self.broker.is_err() || matches!(self.redis, Some(Err(_)))
    }

    /// What Redis shows, if it was asked and answers.
    pub(crate) fn redis(&self) -> Option<&Redis> {
        self.redis.as_ref()?.as_ref().ok()
    }

    /// What a queue holds; nothing where it does not exist.
    pub(crate) fn counts(&self, queue: &str) -> Option<Counts> {
        let queues = &self.broker.as_ref().ok()?.queues;
        queues.iter().find(|thing| thing.name == queue)?.counts
    }

    /// Pools that some dispatcher has served: it declares the queue of their token.
    pub(crate) fn served(&self) -> impl Iterator<Item = (&PoolName, Counts)> {
        let counts = |pool| Some((pool, self.counts(&self.names.leader(pool))?));
        self.pools.iter().filter_map(counts)
    }
}

#[cfg(test)]
pub(crate) mod healthy {
    use super::*;
    use crate::doctor::management::{Node, Queue};
    use crate::doctor::redis::{Worker, Yard};
    use std::collections::BTreeMap;
    use taskyard_common::amqp::{exchanges, inner_queues, shared_queues, ways_in};
    use taskyard_common::store::Survey;
    use taskyard_model::Timestamp;

    /// A yard of which all is known and all is well.
    pub(crate) fn facts() -> Facts {
        let names = Names::new("taskyard");
        let pool = PoolName::default_pool();
        let mut facts = Facts::new(Role::Operator, names.clone(), Vec::new());
        let there = |name: String, consumers| Thing {
            name,
            counts: Some(Counts { messages: 0, consumers }),
            comparison: Some(Comparison::Same),
        };
        let queues = [ways_in(&names, &pool), inner_queues(&names, &pool), shared_queues(&names)];
        let queues = queues.concat().into_iter().map(|(name, _)| there(name, 2));
        let version = "3.10.8".to_owned();
        facts.broker = Ok(Broker {
            server: Ok(Server { product: "RabbitMQ".into(), version, cluster: "c".into() }),
            user: "operator".into(),
            vhost: "/".into(),
            exchanges: exchanges(&names).into_iter().map(|e| there(e.name, 0)).collect(),
            queues: queues.collect(),
            publishing: Ok(Publishing::Fine),
            rights: Ok(Vec::new()),
        });
        let node = |name: &str| Node { name: name.to_owned(), is_running: true, ..Node::default() };
        facts.management = Ok(Management {
            nodes: Ok(["a", "b", "c"].map(node).into()),
            queues: Ok(vec![
                Queue { name: names.dead(), ..Queue::default() },
                Queue { name: names.leader(&pool), consumers: Some(2), ..Queue::default() },
            ]),
            bindings: Ok(Vec::new()),
        });
        facts.environment = Some(Environment {
            consumer_timeout: Some("1800000".into()),
            partition_handling: Some("pause_minority".into()),
        });
        facts.redis = Some(Ok(Redis {
            survey: Survey {
                facts: redis_facts(),
                asked: (Timestamp::from_ms(1_000_000), Timestamp::from_ms(1_000_010)),
            },
            forbidden: Vec::new(),
            yard: Ok(Yard { waiting: Some(BTreeMap::new()), ..Yard::default() }),
        }));
        facts.answer = Some(Ok(()));
        facts
    }

    impl Facts {
        fn redis_mut(&mut self) -> &mut Redis {
            self.redis.as_mut().unwrap().as_mut().unwrap()
        }

        pub(crate) fn set_redis(&mut self, name: &str, value: Option<&str>) {
            let facts = &mut self.redis_mut().survey.facts;
            match value {
                Some(value) => facts.insert(name.to_owned(), value.to_owned()),
                None => facts.remove(name),
            };
        }

        pub(crate) fn yard_mut(&mut self) -> &mut Yard {
            self.redis_mut().yard.as_mut().unwrap()
        }

        /// A worker of the default pool with which all is well.
        pub(crate) fn add_worker(&mut self, id: &str) -> &mut Worker {
            let worker = Worker {
                id: id.to_owned(),
                pool: "default".to_owned(),
                state: "up".to_owned(),
                version: self.version.to_owned(),
                seen_at: Timestamp::from_ms(999_000),
            };
            let workers = &mut self.yard_mut().workers;
            workers.push(worker);
            workers.last_mut().unwrap()
        }

        /// A count of the default pool.
        pub(crate) fn set_count(&mut self, name: &str, count: i64) {
            let counts = self.yard_mut().pools.entry(PoolName::default_pool()).or_default();
            counts.insert(name.to_owned(), count);
        }
    }

    fn redis_facts() -> BTreeMap<String, String> {
        [
            ("redis_version", "7.0.15"),
            ("role", "master"),
            ("cluster_enabled", "0"),
            ("maxmemory", "1000000"),
            ("used_memory", "1000"),
            ("maxmemory_policy", "noeviction"),
            ("aof_enabled", "1"),
            ("appendfsync", "everysec"),
            ("save", ""),
            ("hash_max_listpack_value", "1024"),
            ("server_time_usec", "1000005000"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// What a check says of a healthy yard with something changed: verdicts and texts.
    pub(crate) fn judged(
        check: crate::doctor::check::Judge,
        change: impl FnOnce(&mut Facts),
    ) -> Vec<(crate::doctor::finding::Verdict, String)> {
        let mut facts = facts();
        change(&mut facts);
        check(&facts).into_iter().map(|finding| (finding.verdict, finding.what)).collect()
    }
}
