// SPDX-License-Identifier: Apache-2.0
#include "discovery/eureka_watch.hpp"

#include <algorithm>
#include <utility>

#include "discovery/registry.hpp"

namespace mesh::discovery {

using base::TimePoint;

namespace {

constexpr std::int64_t kJitterShare = 10;  // a tenth of the interval, sooner or later

ServicePolicy with_default_probe(ServicePolicy policy, bool wanted) {
  if (wanted && !policy.probe) {
    policy.probe = std::make_shared<const model::ProbePolicy>(model::ProbePolicy{.when = model::ProbeWhen::kUsed});
  }
  return policy;
}

/// Of an application that nobody wants only what the hash is made of.
EurekaInstance without_details(const EurekaInstance& instance) {
  return {.id = instance.id, .status = instance.status};
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

}  // namespace

EurekaWatch::EurekaWatch(EurekaSettings settings, ServicePolicy policy, std::uint64_t seed)
    : settings_(std::move(settings)),
      mapper_(with_default_probe(std::move(policy), settings_.default_probe)),
      random_(seed),
      server_(random_.below(settings_.servers.size())) {
  for (const EurekaRule& rule : settings_.services) {
    if (!rule.is_exact()) continue;
    const std::string name = upper_case(rule.match);
    app_of(name).named = true;
    settle(name);
  }
}

void EurekaWatch::restart(TimePoint now) {
  read_all_ = true;
  failed_ = 0;
  due_ = now;
}

EurekaWatch::Ask EurekaWatch::ask() const {
  return {.delta = !read_all_, .url = settings_.servers[server_] + (read_all_ ? "/apps" : "/apps/delta")};
}

bool EurekaWatch::ask_another(TimePoint now) {
  server_ = (server_ + 1) % settings_.servers.size();
  read_all_ = true;
  due_ = now;
  return ++failed_ < settings_.servers.size();
}

base::Result<EurekaWatch::Taken> EurekaWatch::answered(const http::FetchResponse& response, TimePoint now) {
  const bool delta = !read_all_;
  const auto read_all = [&] {
    read_all_ = true;
    due_ = now;
    return Taken::kUnsure;
  };
  // Deltas can be switched off (403), are refused by a server that is about to start, and not known to old ones.
  if (delta && (response.status == 403 || response.status == 404)) return read_all();
  if (!response.ok()) return std::unexpected(refused(response));
  if (delta && is_blank(response.body)) return read_all();
  EurekaAnswer answer = MESH_TRY(parse_eureka(response.body));
  if (delta) {
    const std::string said = answer.hash;
    if (!take_delta(std::move(answer)) || hash() != said) return read_all();
    ++deltas_;
  } else {
    take_all(std::move(answer));
    deltas_ = 0;
  }
  failed_ = 0;
  read_all_ = deltas_ >= settings_.full_every;
  const std::int64_t most = settings_.interval.count() / kJitterShare;
  const auto jitter = static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(2 * most + 1))) - most;
  due_ = now + settings_.interval + std::chrono::milliseconds(jitter);
  return Taken::kCurrent;
}

EurekaWatch::App& EurekaWatch::app_of(const std::string& name) {
  const auto [found, is_new] = apps_.try_emplace(name);
  if (is_new) found->second.rule = find_eureka_rule(settings_.services, name);
  return found->second;
}

void EurekaWatch::take_all(EurekaAnswer answer) {
  std::map<std::string, decltype(App::instances), std::less<>> fresh;
  for (EurekaInstance& instance : answer.instances) {
    auto& of_app = fresh[instance.app];
    const std::string id = instance.id;
    instance.action = EurekaAction::kNone;
    of_app.insert_or_assign(id, std::move(instance));
  }
  std::vector<std::string> touched;
  for (auto& [name, app] : apps_) {
    if (app.instances.empty() || fresh.contains(name)) continue;
    app.instances.clear();
    touched.push_back(name);
  }
  for (auto& [name, instances] : fresh) {
    App& app = app_of(name);
    if (app.rule == nullptr) {
      for (auto& [id, instance] : instances) instance = without_details(instance);
    }
    if (app.instances == instances) continue;
    app.instances = std::move(instances);
    touched.push_back(name);
  }
  for (const std::string& name : touched) settle(name);
}

bool EurekaWatch::take_delta(EurekaAnswer answer) {
  std::set<std::string> touched;
  bool known = true;
  for (EurekaInstance& instance : answer.instances) {
    const std::string name = instance.app;
    App& app = app_of(name);
    const EurekaAction action = std::exchange(instance.action, EurekaAction::kNone);
    bool changed = false;
    if (action == EurekaAction::kNone) {
      known = false;
    } else if (action == EurekaAction::kDeleted) {
      changed = app.instances.erase(instance.id) > 0;
    } else {
      if (app.rule == nullptr) instance = without_details(instance);
      EurekaInstance& kept = app.instances[instance.id];
      changed = kept != instance;
      if (changed) kept = instance;
    }
    if (changed || (app.instances.empty() && !app.named)) touched.insert(name);
  }
  for (const std::string& name : touched) settle(name);
  return known;
}

/// After the instances of an application changed.
void EurekaWatch::settle(const std::string& name) {
  const auto found = apps_.find(name);
  App& app = found->second;
  if (app.rule == nullptr || (app.instances.empty() && !app.named)) {
    if (!app.mapped.empty()) changed_ = true;
    if (app.instances.empty()) apps_.erase(found);
    return;
  }
  const EurekaRule& rule = *app.rule;
  const InstancesAs as{.name = rule.name.empty() ? name_in_mesh(name) : rule.name,
                       .origin = "apps/" + name,
                       .address = rule.address,
                       .port = rule.port};
  std::vector<Instance> instances;
  instances.reserve(app.instances.size());
  for (const auto& [id, instance] : app.instances) instances.push_back(to_instance(instance, rule));
  InstancesMapped mapped = mapper_.map(as, instances, app.kept);
  app.mapped = share(std::move(mapped.services), app.mapped);
  changed_ = true;
  if (mapped.notes != app.notes && !mapped.notes.empty()) {
    std::string text;
    for (const std::string& note : mapped.notes) text += (text.empty() ? "" : "; ") + note;
    reports_.push_back({base::ErrorKind::kInvalid, "application " + name + " of Eureka: " + text, {}, 0});
  }
  app.notes = std::move(mapped.notes);
}

std::string EurekaWatch::hash() const {
  EurekaCounts counts{};
  for (const auto& [name, app] : apps_) {
    for (const auto& [id, instance] : app.instances) ++counts[static_cast<std::size_t>(instance.status)];
  }
  return eureka_hash(counts);
}

base::Error EurekaWatch::refused(const http::FetchResponse& response) const {
  base::Error error = http::status_error(response, "GET " + http::public_url(ask().url));
  if (response.status == 401 || response.status == 403) {
    error.remedy = settings_.credentials_file.empty() ? "set a credentials_file with user:password"
                                                      : "check user and password in " + settings_.credentials_file;
  } else if (response.status == 404 || (response.status >= 300 && response.status < 400)) {
    error.remedy = "check the path of the server's address: it ends in /eureka with Spring, in /eureka/v2 with Netflix";
  }
  return error;
}

std::vector<base::Error> EurekaWatch::take_reports() { return std::exchange(reports_, {}); }

std::optional<std::vector<model::ServicePtr>> EurekaWatch::take_update() {
  if (!std::exchange(changed_, false)) return std::nullopt;
  std::vector<model::ServicePtr> services;
  for (const auto& [name, app] : apps_) services.insert(services.end(), app.mapped.begin(), app.mapped.end());
  return services;
}

}  // namespace mesh::discovery
