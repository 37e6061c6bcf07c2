# SPDX-License-Identifier: Apache-2.0
# `cmake --install` and `cpack`: the Debian package meshd, for `apt install ./meshd_*.deb`, and meshd-xds with the library
# that speaks xDS, so that hosts without xDS need no gRPC.
# Installing touches nothing that runs: see deploy/debian/postinst and deploy/config/meshd.yaml.

install(TARGETS meshd meshctl RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES deploy/systemd/meshd.service deploy/systemd/meshd-relay.service DESTINATION /lib/systemd/system)
install(FILES deploy/systemd/meshd.sysusers DESTINATION lib/sysusers.d RENAME meshd.conf)
install(FILES deploy/config/meshd.yaml DESTINATION /etc/meshd)
install(DIRECTORY DESTINATION /etc/meshd/conf.d)
install(FILES deploy/debian/copyright DESTINATION share/doc/meshd)
install(FILES deploy/debian/lintian-overrides DESTINATION share/lintian/overrides RENAME meshd)

# Generated: completions from meshctl itself; man pages and changelog compressed as Debian wants them, reproducibly.
set(generated ${CMAKE_CURRENT_BINARY_DIR}/package)
file(MAKE_DIRECTORY ${generated})
configure_file(deploy/debian/changelog.in ${generated}/changelog @ONLY)
set(compressed)
function(mesh_compress source name destination)
  add_custom_command(OUTPUT ${generated}/${name}.gz DEPENDS ${source}
    COMMAND gzip -9nc ${source} > ${generated}/${name}.gz VERBATIM)
  install(FILES ${generated}/${name}.gz DESTINATION ${destination})
  set(compressed ${compressed} ${generated}/${name}.gz PARENT_SCOPE)
endfunction()
mesh_compress(${generated}/changelog changelog share/doc/meshd)
mesh_compress(${CMAKE_CURRENT_SOURCE_DIR}/docs/configuration.md configuration.md share/doc/meshd)
foreach(page meshd.8 meshctl.1 meshd.yaml.5)
  string(REGEX MATCH "[0-9]$" section ${page})
  mesh_compress(${CMAKE_CURRENT_SOURCE_DIR}/docs/man/${page} ${page} share/man/man${section})
endforeach()
foreach(shell bash zsh fish)
  add_custom_command(OUTPUT ${generated}/completion.${shell} DEPENDS meshctl
    COMMAND meshctl completion ${shell} > ${generated}/completion.${shell} VERBATIM)
  list(APPEND compressed ${generated}/completion.${shell})
endforeach()
add_custom_target(package_files ALL DEPENDS ${compressed})
install(FILES ${generated}/completion.bash DESTINATION share/bash-completion/completions RENAME meshctl)
install(FILES ${generated}/completion.zsh DESTINATION share/zsh/vendor-completions RENAME _meshctl)
install(FILES ${generated}/completion.fish DESTINATION share/fish/vendor_completions.d RENAME meshctl.fish)

if(TARGET mesh_xds_module)
  # Not in lib/meshd: CPack takes what is one folder below /usr/lib for a shared library of the system's, and calls ldconfig.
  install(TARGETS mesh_xds_module LIBRARY DESTINATION lib/meshd/plugins COMPONENT xds)
  install(FILES deploy/debian/copyright DESTINATION share/doc/meshd-xds COMPONENT xds)
  install(FILES ${generated}/changelog.gz DESTINATION share/doc/meshd-xds COMPONENT xds)
  set(CPACK_DEBIAN_XDS_PACKAGE_NAME meshd-xds)
  set(CPACK_DEBIAN_XDS_PACKAGE_DEPENDS "meshd (= ${PROJECT_VERSION})")
  set(CPACK_DEBIAN_XDS_PACKAGE_RECOMMENDS "")
  set(CPACK_COMPONENT_XDS_DESCRIPTION "xDS for meshd
 The library with which meshd takes services from an xDS control plane and
 serves its own to Envoy and gRPC. The agent loads it when its configuration
 asks for it.")
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_PACKAGE_NAME meshd)
set(CPACK_DEBIAN_UNSPECIFIED_PACKAGE_NAME meshd)
set(CPACK_PACKAGE_CONTACT "The meshd authors <meshd@users.noreply.github.com>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "node-level mesh agent that balances connect() in the kernel")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"meshd loads BPF programs that choose a backend inside an application's own
 connect(): no proxy in the path, no packet filter rules, no sidecar. A daemon
 reads services from files, probes their backends and keeps the kernel tables
 right. meshctl shows what happens and why.")
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR})
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_UNSPECIFIED_PACKAGE_RECOMMENDS "systemd")
set(CPACK_DEBIAN_UNSPECIFIED_PACKAGE_SUGGESTS "meshd-xds")
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
foreach(script postinst prerm postrm conffiles)
  list(APPEND CPACK_DEBIAN_UNSPECIFIED_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_SOURCE_DIR}/deploy/debian/${script})
endforeach()
include(CPack)
