// SPDX-License-Identifier: Apache-2.0
#include "discovery/consul_watch.hpp"

#include <algorithm>
#include <charconv>
#include <functional>
#include <set>
#include <utility>

#include "discovery/registry.hpp"

namespace mesh::discovery {

using base::ErrorKind;
using base::TimePoint;
using namespace std::chrono_literals;

struct ConsulWatch::Watched {
  const ConsulRule* rule;
  bool listed = true;  // by the newest catalog, or named by a rule
  ConsulQuery query{};
  AskId ask = 0;  // in flight
  bool queued = false;
  bool again = false;        // something changed while it was in flight
  bool answered = false;     // since restart()
  bool waited_for = false;   // counted in unanswered_
  bool of_last_run = false;  // `mapped` is what was known in the last run
  unsigned failures = 0;     // to read the content, in a row
  base::Backoff backoff{};
  std::optional<base::Error> trouble{};
  std::optional<std::size_t> body_hash{};
  std::vector<ConsulInstance> instances{};
  InstancesKept kept{};
  std::vector<model::ServicePtr> mapped{};
  std::vector<std::string> notes{};
};

void TwoTokens::take(TimePoint now, base::Duration interval) {
  full_ = std::max(full_, now) + interval;
  next_ = std::max(now, full_ - interval);
}

ConsulHeaders read_consul_headers(const http::Headers& headers) {
  const auto number = [&](std::string_view name) -> std::optional<std::uint64_t> {
    const std::string* const text = http::find_header(headers, name);
    std::uint64_t value = 0;
    if (text == nullptr) return std::nullopt;
    const auto [end, problem] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (problem != std::errc{} || end != text->data() + text->size()) return std::nullopt;
    return value;
  };
  const auto is = [&](std::string_view name, std::string_view value) {
    const std::string* const text = http::find_header(headers, name);
    return text != nullptr && *text == value;
  };
  constexpr std::uint64_t kLongest = std::chrono::milliseconds(240h).count();
  return {.index = number("X-Consul-Index"),
          .known_leader = !is("X-Consul-KnownLeader", "false"),
          .last_contact = std::chrono::milliseconds(std::min(number("X-Consul-LastContact").value_or(0), kLongest)),
          .filtered = is("X-Consul-Results-Filtered-By-ACLs", "true")};
}

base::Result<ConsulQuery::Change> ConsulQuery::take(const ConsulHeaders& headers, const ConsulSettings& settings,
                                                    TimePoint now) {
  if (!headers.index) {
    return base::fail(ErrorKind::kInvalid, "no X-Consul-Index in the answer",
                      "check that nothing between the agent and Consul removes headers");
  }
  if (settings.consistency == ConsulConsistency::kStale && headers.last_contact > settings.max_contact_age) {
    return base::fail(ErrorKind::kUnavailable,
                      "the server heard nothing of its leader for " + base::format_age(headers.last_contact),
                      "look at Consul's servers, or set a longer max_contact_age");
  }
  const std::uint64_t answered = *headers.index;
  const bool went_back = answered < index_;
  if (went_back && !headers.known_leader) {
    return base::fail(ErrorKind::kUnavailable, "the server has an older state and knows no leader",
                      "look at Consul's servers");
  }
  const Change change = index_ == 0 ? Change::kFirst : answered == index_ ? Change::kNone : Change::kMoved;
  // Back: a restored snapshot, or another server: its next question is a plain read. A server that says 0 must not be
  // asked with 0 again and again, which would never wait.
  index_ = went_back ? 0 : std::max<std::uint64_t>(answered, 1);
  if (change != Change::kFirst) bucket_.take(now, settings.churn_interval);
  return change;
}

void ConsulConnections::refused(TimePoint now) {
  count_ = std::max(kFewest, count_ / 2);
  rest_ = std::clamp(rest_ * 2, kFirstRest, kLongestRest);
  grows_at_ = now + rest_;
}

bool ConsulConnections::look(TimePoint now) {
  if (now < due()) return false;
  count_ = std::min(most_, count_ + std::max(1U, most_ / 10));
  grows_at_ = now + rest_;
  return true;
}

ConsulWatch::ConsulWatch(ConsulSettings settings, ConsulMapper mapper, std::uint64_t seed)
    : settings_(std::move(settings)),
      mapper_(std::move(mapper)),
      random_(seed),
      has_patterns_(!std::ranges::all_of(settings_.services, &ConsulRule::is_exact)),
      connections_(settings_.max_connections) {
  for (const ConsulRule& rule : settings_.services) {
    if (rule.is_exact() && !services_.contains(rule.match)) watch(rule.match, rule);
  }
  set_mode();
}

ConsulWatch::~ConsulWatch() = default;

void ConsulWatch::restart() {
  catalog_ = {};
  checks_ = {};
  failing_ = {};
  asks_.clear();
  cancel_.clear();
  urgent_.clear();
  routine_.clear();
  later_.clear();
  reading_ = 0;
  unanswered_ = 0;
  read_all_wanted_ = false;
  read_all_at_ = {};
  for (auto& [name, watched] : services_) {
    watched->query = {};
    watched->ask = 0;
    watched->queued = watched->again = watched->answered = false;
    watched->waited_for = true;
    watched->failures = 0;
    ++unanswered_;
    queue(name, *watched, false);
  }
  set_mode();
}

void ConsulWatch::watch(const std::string& name, const ConsulRule& rule) {
  auto watched = std::make_unique<Watched>(&rule);
  watched->waited_for = true;
  ++unanswered_;
  queue(name, *watched, true);
  services_.emplace(name, std::move(watched));
}

void ConsulWatch::forget(const std::string& name) {
  const auto found = services_.find(name);
  Watched& watched = *found->second;
  if (watched.ask != 0) {
    cancel_.push_back(watched.ask);
    asks_.erase(watched.ask);
    --reading_;
  }
  if (watched.waited_for) --unanswered_;
  set_trouble(watched, std::nullopt);
  services_.erase(found);
  changed_ = true;
}

void ConsulWatch::queue(const std::string& name, Watched& watched, bool urgent) {
  if (watched.ask != 0) {
    watched.again = true;
    return;
  }
  if (watched.queued && !urgent) return;
  watched.queued = true;
  (urgent ? urgent_ : routine_).push_back(name);
}

void ConsulWatch::set_trouble(Watched& watched, std::optional<base::Error> error) {
  if (watched.trouble) --troubled_;
  watched.trouble = std::move(error);
  if (watched.trouble) ++troubled_;
}

/// A query of its own for each service, as long as there are connections for all.
void ConsulWatch::set_mode() {
  const std::size_t wanted = services_.size() + (has_patterns_ ? 1 : 0);
  const bool shared = wanted > connections_.count();
  if (shared == shared_) return;
  shared_ = shared;
  if (!shared) {
    if (checks_.ask != 0) {
      cancel_.push_back(checks_.ask);
      asks_.erase(checks_.ask);
    }
    checks_ = {};
    failing_ = {};
    for (auto& [name, watched] : services_) queue(name, *watched, false);
    return;
  }
  for (auto& [name, watched] : services_) {
    if (watched->ask == 0) continue;
    cancel_.push_back(watched->ask);
    asks_.erase(watched->ask);
    watched->ask = 0;
    --reading_;
    queue(name, *watched, false);
  }
}

std::string ConsulWatch::target(std::string path, std::uint64_t index, std::string_view more) const {
  char separator = '?';
  const auto add = [&](std::string_view text) {
    path += std::exchange(separator, '&');
    path += text;
  };
  const auto add_value = [&](std::string_view key, const std::string& value) {
    if (!value.empty()) add(std::string(key) + "=" + http::url_encode(value));
  };
  if (settings_.consistency == ConsulConsistency::kStale) add("stale");
  if (settings_.consistency == ConsulConsistency::kConsistent) add("consistent");
  add_value("dc", settings_.datacenter);
  add_value("ns", settings_.name_space);
  add_value("partition", settings_.partition);
  add_value("peer", settings_.peer);
  if (!more.empty()) add(more);
  if (index != 0) {
    add("index=" + std::to_string(index));
    add("wait=" + std::to_string(settings_.wait.count()) + "s");
  }
  return path;
}

ConsulWatch::Ask ConsulWatch::make_ask(Kind kind, std::string name, std::string path, std::uint64_t index,
                                       std::string_view more) {
  const AskId id = next_ask_++;
  asks_.emplace(id, std::pair{kind, std::move(name)});
  const std::chrono::milliseconds wait = settings_.wait;
  return {.id = id,
          .target = target(std::move(path), index, more),
          .no_progress = settings_.timeout + (index != 0 ? wait + wait / 16 : 0ms)};
}

void ConsulWatch::ask_signal(Kind kind, Signal& signal, TimePoint now, Step& step) {
  if (signal.ask != 0 || signal.query.not_before() > now) return;
  const bool catalog = kind == Kind::kCatalog;
  step.start.push_back(make_ask(kind, "", catalog ? "/v1/catalog/services" : "/v1/health/state/any",
                                signal.query.index(),
                                // Only those that don't pass: thousands of passing checks say nothing.
                                catalog ? "" : "filter=Status%20%21%3D%20%22passing%22"));
  signal.ask = step.start.back().id;
}

void ConsulWatch::ask_services(TimePoint now, Step& step) {
  // What fails before the first answer about failing checks would not be seen as a change.
  if (shared_ && (!checks_.answered || !catalog_.answered)) return;
  while (!later_.empty() && later_.begin()->first <= now) {
    const std::string name = std::move(later_.begin()->second);
    later_.erase(later_.begin());
    if (const auto found = services_.find(name); found != services_.end()) queue(name, *found->second, false);
  }
  const std::size_t most = shared_ ? std::min<std::size_t>(kPoolReads, connections_.count() - 2)
                                   : connections_.count() - (has_patterns_ ? 1 : 0);
  while (reading_ < most && !(urgent_.empty() && routine_.empty())) {
    std::deque<std::string>& from = urgent_.empty() ? routine_ : urgent_;
    std::string name = std::move(from.front());
    from.pop_front();
    const auto found = services_.find(name);
    if (found == services_.end() || !found->second->queued || found->second->ask != 0) continue;
    Watched& watched = *found->second;
    watched.queued = false;
    std::string path = "/v1/health/service/" + http::url_encode(name);
    step.start.push_back(
        make_ask(Kind::kService, std::move(name), std::move(path), shared_ ? 0 : watched.query.index(), ""));
    watched.ask = step.start.back().id;
    ++reading_;
  }
}

void ConsulWatch::read_all(TimePoint now) {
  if (!shared_ || !catalog_.answered || !checks_.answered) return;
  if (read_all_at_ == TimePoint{}) read_all_at_ = now + kReadAllEvery;
  const bool due = now >= read_all_at_;
  if (!due && (!read_all_wanted_ || read_all_bucket_.next() > now || !routine_.empty())) return;
  for (auto& [name, watched] : services_) queue(name, *watched, false);
  const base::Duration pace = std::chrono::milliseconds(1000 * services_.size() / kReadsPerSecond);
  read_all_bucket_.take(now, std::max<base::Duration>(settings_.churn_interval, pace));
  const auto jitter = static_cast<std::int64_t>(random_.below(30'000));
  read_all_at_ = now + kReadAllEvery + std::chrono::milliseconds(jitter);
  read_all_wanted_ = false;
}

ConsulWatch::Step ConsulWatch::step(TimePoint now) {
  Step step;
  if (connections_.look(now)) set_mode();
  if (needs_catalog()) ask_signal(Kind::kCatalog, catalog_, now, step);
  if (shared_) ask_signal(Kind::kChecks, checks_, now, step);
  read_all(now);
  ask_services(now, step);
  step.cancel = std::exchange(cancel_, {});
  return step;
}

TimePoint ConsulWatch::wake_at() const {
  TimePoint at = connections_.due();
  if (needs_catalog() && catalog_.ask == 0) at = std::min(at, catalog_.query.not_before());
  if (shared_ && checks_.ask == 0) at = std::min(at, checks_.query.not_before());
  if (!later_.empty()) at = std::min(at, later_.begin()->first);
  if (shared_ && read_all_at_ != TimePoint{}) at = std::min(at, read_all_at_);
  if (shared_ && read_all_wanted_ && routine_.empty()) at = std::min(at, read_all_bucket_.next());
  return at;
}

base::Error ConsulWatch::refused(const http::FetchResponse& response, Kind kind, std::string_view name, TimePoint now) {
  const std::string what = kind == Kind::kCatalog  ? "list the services of Consul"
                           : kind == Kind::kChecks ? "read the failing checks of Consul"
                                                   : "read service " + std::string(name) + " of Consul";
  base::Error error = http::status_error(response, what);
  if (error.kind == ErrorKind::kPermission) {
    const std::string rights = kind == Kind::kService ? "service:read on " + std::string(name) + " and node:read"
                                                      : "service:read and node:read";
    error.remedy = (settings_.token_file.empty() ? "set a token_file whose token has "
                                                 : "put a token into " + settings_.token_file + " that has ") +
                   rights;
  } else if (response.status == 429) {
    connections_.refused(now);
    error.remedy = "Consul limits connections per client address: the agent goes on with " +
                   std::to_string(connections_.count()) +
                   " and later tries more; set max_connections, or Consul's http_max_conns_per_client";
  }
  return error;
}

base::Result<void> ConsulWatch::answered(AskId id, const http::FetchResponse& response, TimePoint now) {
  const auto found = asks_.find(id);
  if (found == asks_.end()) return {};  // forgotten meanwhile
  const auto [kind, name] = std::move(found->second);
  asks_.erase(found);
  Watched* watched = nullptr;
  if (kind == Kind::kService) {
    watched = services_.find(name)->second.get();
    watched->ask = 0;
    --reading_;
  } else {
    (kind == Kind::kCatalog ? catalog_ : checks_).ask = 0;
  }
  if (!response.ok()) return std::unexpected(refused(response, kind, name, now));

  const ConsulHeaders headers = read_consul_headers(response.headers);
  ConsulQuery& query = watched != nullptr ? watched->query : (kind == Kind::kCatalog ? catalog_ : checks_).query;
  auto change = query.take(headers, settings_, now);
  if (!change) return std::unexpected(std::move(change.error()).within("read Consul"));
  switch (kind) {
    case Kind::kCatalog:
      return take_catalog(response, headers.filtered, *change);
    case Kind::kChecks:
      return take_checks(response, now);
    case Kind::kService:
      take_service(name, *watched, response, headers.filtered, now);
      return {};
  }
  return {};
}

base::Result<void> ConsulWatch::take_catalog(const http::FetchResponse& response, bool filtered,
                                             ConsulQuery::Change change) {
  const std::vector<ConsulName> names = MESH_TRY(parse_consul_catalog(response.body));
  std::map<std::string_view, const ConsulRule*> wanted;
  for (const ConsulName& name : names) {
    if (const ConsulRule* const rule = find_consul_rule(settings_.services, name)) wanted.emplace(name.name, rule);
  }
  for (const ConsulRule& rule : settings_.services) {
    if (rule.is_exact()) wanted.emplace(rule.match, &rule);  // unless an earlier rule has it
  }
  std::vector<std::string> gone;
  for (auto& [name, watched] : services_) {
    const auto found = wanted.find(name);
    watched->listed = found != wanted.end();
    // A list with holes proves nothing: the service's own answer does, when it is empty and whole.
    if (!watched->listed && !filtered) gone.push_back(name);
    if (watched->listed && std::exchange(watched->rule, found->second) != found->second && watched->answered) {
      map(name, *watched);
    }
  }
  for (const std::string& name : gone) forget(name);
  for (const auto& [name, rule] : wanted) {
    if (!services_.contains(name)) watch(std::string(name), *rule);
  }
  if (filtered) watch_hidden();
  set_mode();
  if (shared_ && change == ConsulQuery::Change::kMoved) read_all_wanted_ = true;
  catalog_.answered = true;
  return {};
}

base::Result<void> ConsulWatch::take_checks(const http::FetchResponse& response, TimePoint now) {
  ConsulFailing failing = MESH_TRY(parse_consul_failing(response.body));
  const auto differing = [](const auto& before, const auto& after) {
    std::set<std::string, std::less<>> names;
    for (const auto& [name, hash] : before) {
      const auto found = after.find(name);
      if (found == after.end() || found->second != hash) names.insert(name);
    }
    for (const auto& [name, hash] : after) {
      if (!before.contains(name)) names.insert(name);
    }
    return names;
  };
  if (checks_.answered) {
    for (const std::string& name : differing(failing_.services, failing.services)) {
      if (const auto found = services_.find(name); found != services_.end()) queue(name, *found->second, true);
    }
    if (const auto nodes = differing(failing_.nodes, failing.nodes); !nodes.empty()) {
      for (auto& [name, watched] : services_) {
        const auto on_them = [&](const ConsulInstance& instance) { return nodes.contains(instance.node); };
        if (std::ranges::any_of(watched->instances, on_them)) queue(name, *watched, true);
      }
    }
  }
  failing_ = std::move(failing);
  checks_.answered = true;
  read_all(now);
  return {};
}

/// What was there in the last run may be there still, where the list of services has holes.
void ConsulWatch::watch_hidden() {
  for (const std::string& name : mapper_.names_of_last_run()) {
    if (services_.contains(name)) continue;
    const auto rule = std::ranges::find_if(
        settings_.services, [&](const ConsulRule& one) { return one.name.empty() && rule_matches(one.match, name); });
    if (rule == settings_.services.end()) continue;
    watch(name, *rule);
    services_.find(name)->second->listed = false;
  }
}

/// Nothing was ever learned about it but that the token hides it: it stays as it was in the last run.
bool ConsulWatch::keep_last_run(const std::string& name, Watched& watched) {
  std::vector<model::Service> last = mapper_.last_run(name, *watched.rule);
  if (last.empty()) return false;
  watched.mapped = share(std::move(last), watched.mapped);
  watched.of_last_run = true;
  changed_ = true;
  base::Error error{ErrorKind::kPermission,
                    "read service " + name + " of Consul: its token hides it, so it stays as it was in the last run",
                    "give the token service:read on " + name + " and node:read on its nodes", 0};
  reports_.push_back(error);
  set_trouble(watched, std::move(error));
  return true;
}

/// What is missing in an answer with holes may still be there.
void ConsulWatch::keep_hidden(Watched& watched, std::vector<ConsulInstance>& instances, const std::string& name) {
  const auto key = [](const ConsulInstance& one) { return std::tie(one.node, one.id); };
  std::vector<ConsulInstance> all;
  std::ranges::set_union(instances, watched.instances, std::back_inserter(all), {}, key, key);
  if (all.size() == instances.size()) return set_trouble(watched, std::nullopt);
  base::Error error{ErrorKind::kPermission,
                    "read service " + name + " of Consul: its token hides some, so " +
                        std::to_string(all.size() - instances.size()) + " of its instances stay that were not answered",
                    "give the token service:read on " + name + " and node:read on its nodes", 0};
  if (watched.trouble != error) reports_.push_back(error);
  set_trouble(watched, std::move(error));
  instances = std::move(all);
}

void ConsulWatch::take_service(const std::string& name, Watched& watched, const http::FetchResponse& response,
                               bool filtered, TimePoint now) {
  const auto known = [&] {
    watched.answered = true;
    if (std::exchange(watched.waited_for, false) && --unanswered_ == 0) changed_ = true;
  };
  const std::size_t hash = std::hash<std::string_view>{}(response.body) * 2 + (filtered ? 1 : 0);
  if (watched.body_hash != hash) {
    auto instances = parse_consul_health(response.body, settings_.tagged_address);
    if (!instances) {
      base::Error error = std::move(instances.error()).within("service " + name);
      reports_.push_back(error);
      set_trouble(watched, std::move(error));
      watched.query.forget();
      watched.body_hash.reset();
      later_.emplace(now + watched.backoff.next(now, random_), name);
      if (++watched.failures >= kTriesOfContent && watched.waited_for) known();
      return;
    }
    const bool unknown = watched.of_last_run || (watched.mapped.empty() && watched.instances.empty());
    const bool hidden = filtered && instances->empty() && unknown && keep_last_run(name, watched);
    if (!hidden && filtered) keep_hidden(watched, *instances, name);
    if (!filtered) set_trouble(watched, std::nullopt);
    watched.body_hash = hash;
    if (!hidden && (watched.of_last_run || *instances != watched.instances || !watched.answered)) {
      watched.of_last_run = false;
      watched.instances = std::move(*instances);
      map(name, watched);
    }
  } else if (watched.trouble && !filtered) {
    set_trouble(watched, std::nullopt);
  }
  watched.failures = 0;
  watched.backoff = {};
  known();
  if (!watched.listed && !filtered && watched.instances.empty()) return forget(name);
  const bool again = std::exchange(watched.again, false);
  if (shared_) {
    if (again) queue(name, watched, true);
  } else if (watched.query.not_before() <= now) {
    queue(name, watched, false);
  } else {
    later_.emplace(watched.query.not_before(), name);
  }
}

void ConsulWatch::map(const std::string& name, Watched& watched) {
  InstancesMapped mapped = mapper_.map(name, *watched.rule, watched.instances, watched.kept);
  std::vector<model::ServicePtr> fresh = share(std::move(mapped.services), watched.mapped);
  const bool alone = watched.rule->name.empty();  // else others may have its name, and which one is meant is not said
  if (alone && stand_for(fresh, watched.mapped)) {
    exchanged_.insert(exchanged_.end(), fresh.begin(), fresh.end());
  } else {
    changed_ = true;
  }
  watched.mapped = std::move(fresh);
  if (mapped.notes != watched.notes && !mapped.notes.empty()) {
    std::string text;
    for (const std::string& note : mapped.notes) text += (text.empty() ? "" : "; ") + note;
    reports_.push_back({ErrorKind::kInvalid, "service " + name + " of Consul: " + text, {}, 0});
  }
  watched.notes = std::move(mapped.notes);
}

base::Error ConsulWatch::trouble() const {
  const auto found = std::ranges::find_if(services_, [](const auto& one) { return one.second->trouble.has_value(); });
  MESH_ASSERT(found != services_.end());
  return *found->second->trouble;
}

std::vector<base::Error> ConsulWatch::take_reports() { return std::exchange(reports_, {}); }

std::vector<model::ServicePtr> ConsulWatch::take_exchanged() {
  if (changed_ || !all_known()) return {};
  return std::exchange(exchanged_, {});
}

bool ConsulWatch::all_known() const { return unanswered_ == 0 && (!needs_catalog() || catalog_.answered); }

std::optional<std::vector<model::ServicePtr>> ConsulWatch::take_update() {
  if ((!changed_ && exchanged_.empty()) || !all_known()) return std::nullopt;
  changed_ = false;
  exchanged_.clear();
  std::vector<model::ServicePtr> services;
  for (const auto& [name, watched] : services_) {
    services.insert(services.end(), watched->mapped.begin(), watched->mapped.end());
  }
  return services;
}

}  // namespace mesh::discovery
