// SPDX-License-Identifier: Apache-2.0
#include "app/ca_command.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "base/fd.hpp"
#include "tls/certificate.hpp"
#include "tls/issuer.hpp"

namespace mesh::app {
namespace {

constexpr std::size_t kPemBytesMax = 256 * 1024;
constexpr unsigned kSecret = 0600;

struct Paths {
  std::string certificate;
  std::string key;
  std::string bundle;
};

Paths paths_in(const std::string& folder) { return {folder + "/ca.crt", folder + "/ca.key", folder + "/bundle.crt"}; }

base::Result<void> make_folder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(folder).parent_path(), error);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return base::fail_errno(errno, "make the folder " + folder, "choose another with --folder or --out");
  }
  return {};
}

/// The key first: a certificate without its key is of no use, and a key without its certificate harms nobody.
base::Result<void> write_authority(const Paths& paths, const tls::IssuedPem& made, const std::string& bundle) {
  MESH_CHECK(base::write_file_atomically(paths.key, made.key, kSecret));
  MESH_CHECK(base::write_file_atomically(paths.certificate, made.certificate));
  return base::write_file_atomically(paths.bundle, bundle);
}

base::Result<std::uint64_t> count_authorities(const std::string& bundle) {
  const auto parsed = MESH_TRY(tls::Authorities::parse(bundle, ""));
  return parsed->facts().size();
}

base::Result<std::string> read_authority(const Paths& paths) {
  auto text = base::read_file(paths.certificate, kPemBytesMax);
  if (!text) text.error().remedy = "make an authority with `meshctl ca init`, or name its folder with --folder";
  return text;
}

}  // namespace

base::Result<api::AuthorityView> init_authority(const AuthorityRequest& request, base::WallTime now) {
  const Paths paths = paths_in(request.folder);
  for (const std::string& path : {paths.certificate, paths.key}) {
    if (std::filesystem::exists(path)) {
      return base::fail(base::ErrorKind::kConflict, "make an authority: " + path + " is there already",
                        "`meshctl ca rotate` replaces it; or choose another --folder");
    }
  }
  const tls::IssuedPem made = MESH_TRY(tls::make_authority(request.trust_domain, now, std::chrono::days(request.days)));
  MESH_CHECK(make_folder(request.folder));
  MESH_CHECK(write_authority(paths, made, made.certificate));
  return api::AuthorityView{.trust_domain = request.trust_domain,
                            .expires_at = base::format_rfc3339(made.ends),
                            .authorities = 1,
                            .files = {paths.certificate, paths.key, paths.bundle},
                            .next = "meshctl ca issue --id spiffe://" + request.trust_domain + "/NAME --out FOLDER"};
}

base::Result<api::AuthorityView> issue_certificate(const AuthorityRequest& request, base::WallTime now) {
  const Paths paths = paths_in(request.folder);
  const tls::SpiffeId id = MESH_TRY(tls::SpiffeId::parse(request.id));
  const std::string authority = MESH_TRY(read_authority(paths));
  const std::string key = MESH_TRY(base::read_file(paths.key, kPemBytesMax));
  const std::string bundle = MESH_TRY(base::read_file(paths.bundle, kPemBytesMax));
  const auto authorities = MESH_TRY(count_authorities(bundle));
  const tls::IssuedPem made = MESH_TRY(tls::issue_svid(authority, key, id, now, std::chrono::hours(request.hours)));
  MESH_CHECK(make_folder(request.out));
  const std::string front = request.out + "/";
  MESH_CHECK(base::write_file_atomically(front + "ca.crt", bundle));
  MESH_CHECK(base::write_file_atomically(front + "tls.key", made.key, kSecret));
  MESH_CHECK(base::write_file_atomically(front + "tls.crt", made.certificate));
  return api::AuthorityView{.trust_domain = id.trust_domain,
                            .id = id.to_string(),
                            .expires_at = base::format_rfc3339(made.ends),
                            .authorities = authorities,
                            .files = {front + "tls.crt", front + "tls.key", front + "ca.crt"},
                            .next = "copy the folder to the node; a relay that has it takes it by itself"};
}

base::Result<api::AuthorityView> rotate_authority(const AuthorityRequest& request, base::WallTime now) {
  const Paths paths = paths_in(request.folder);
  const std::string before = MESH_TRY(read_authority(paths));
  const std::string domain = MESH_TRY(tls::trust_domain_of(before));
  if (request.finish) {
    MESH_CHECK(base::write_file_atomically(paths.bundle, before));
    const auto known = MESH_TRY(tls::Authorities::parse(before, ""));
    return api::AuthorityView{.trust_domain = domain,
                              .expires_at = base::format_rfc3339(known->facts().front().not_after),
                              .authorities = 1,
                              .files = {paths.bundle},
                              .next = "copy bundle.crt to every node: what the old authority issued is refused"};
  }
  const tls::IssuedPem made = MESH_TRY(tls::make_authority(domain, now, std::chrono::days(request.days)));
  const std::string bundle = made.certificate + before;
  // Believed before it issues: a crash between the files leaves nobody who is not believed.
  MESH_CHECK(base::write_file_atomically(paths.bundle, bundle));
  MESH_CHECK(write_authority(paths, made, bundle));
  return api::AuthorityView{.trust_domain = domain,
                            .expires_at = base::format_rfc3339(made.ends),
                            .authorities = 2,
                            .files = {paths.certificate, paths.key, paths.bundle},
                            .next =
                                "copy bundle.crt to every node, then issue all certificates again, then "
                                "meshctl ca rotate --finish"};
}

}  // namespace mesh::app
